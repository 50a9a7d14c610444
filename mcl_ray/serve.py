"""The command `python -m mcl_ray.serve`; its code is `mcl_ray.cli.serve`."""

if __name__ == "__main__":
    from mcl_ray.cli import app
    from mcl_ray.cli.serve import program

    app.main(program("python -m mcl_ray.serve"))
