"""The fair comparison of fusion methods: same networks, initialisation, data order, budget and tuning for all."""
