"""python -m fedsim: the same as the console script `fedsim`."""

from fedsim.cli import main

if __name__ == "__main__":
    main()
