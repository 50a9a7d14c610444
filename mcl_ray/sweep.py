"""The command `python -m mcl_ray.sweep`; its code is `mcl_ray.cli.sweep`."""

if __name__ == "__main__":
    from mcl_ray.interruption import handle_signals

    handle_signals()  # the imports below take a while

    from mcl_ray.cli import app
    from mcl_ray.cli.sweep import program

    app.main(program("python -m mcl_ray.sweep"))
