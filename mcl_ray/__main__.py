"""`python -m mcl_ray train digits` is the same as `mcl train digits`."""

from mcl_ray.cli.main import main

if __name__ == "__main__":
    main()
