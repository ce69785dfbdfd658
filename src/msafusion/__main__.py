"""`python -m msafusion` is the command `msafusion`."""

from msafusion.cli import main

if __name__ == "__main__":
    main()
