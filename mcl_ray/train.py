"""The command `python -m mcl_ray.train`; its code is `mcl_ray.cli.train`."""

if __name__ == "__main__":
    from mcl_ray.interruption import handle_signals

    handle_signals()  # the imports below take a while

    from mcl_ray.cli import app
    from mcl_ray.cli.rank_output import rank_zero_output
    from mcl_ray.cli.train import train

    app.run_command(train, rank_zero_output())
