"""`python -m tinyllm` is the `tinyllm` command."""

from tinyllm.cli.main import main

if __name__ == "__main__":
    main()
