"""What goes wrong in a training on purpose; chosen by name in driver.py's options."""


def stop_after_four_steps() -> None:
    """End the run by an exception once step 4 has been saved."""
    from transformers import Trainer

    save = Trainer._maybe_log_save_evaluate

    def stop(self, *args, **kwargs):
        save(self, *args, **kwargs)
        if self.state.global_step == 4:
            raise SystemExit("stopped after four steps")

    Trainer._maybe_log_save_evaluate = stop
