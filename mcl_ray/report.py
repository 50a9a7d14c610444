"""The command `python -m mcl_ray.report`; its code is `mcl_ray.cli.report`."""

if __name__ == "__main__":
    from mcl_ray.cli import app
    from mcl_ray.cli.report import report

    app.run_command(report)
