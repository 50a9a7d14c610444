"""The command `python -m mcl_ray.export`; its code is `mcl_ray.cli.export`."""

if __name__ == "__main__":
    from mcl_ray.cli import app
    from mcl_ray.cli.export import export

    app.run_command(export)
