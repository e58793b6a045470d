"""`python -m gnnfast`: the command line where the `gnnfast` script is not on the path."""

from gnnfast.cli.main import main

if __name__ == "__main__":
    main()
