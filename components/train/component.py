"""dataset -> checkpoint"""

from kfp import dsl

from components import pinned_image


@dsl.component(base_image=pinned_image(), install_kfp_package=False)
def train(
    dataset: dsl.Input[dsl.Dataset],
    checkpoint: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    mlpipeline_ui_metadata: dsl.Output[dsl.Artifact],
    base: dsl.Input[dsl.Model] = None,
    resume_from: dsl.Input[dsl.Model] = None,
    model: str = "char-gru",
    preset: str = "small",
    overrides: dict = {},  # noqa: B006
    seed: int = 0,
    max_steps: int = 0,
    max_minutes: float = 0.0,
    patience: int = 0,
    save_every_minutes: float = 5.0,
    keep: int = 2,
    resume: str = "auto",
    precision: str = "auto",
    engine: str = "textmill",
):
    """Train a model on a dataset; validate, sample and save on the way.

    On a cluster each saved state is copied below the checkpoint's URI, so that a retry of the task goes on from there.

    Args:
        dataset: What normalize made.
        base: Model to start from: a checkpoint of textmill, OpenAI, gpt-2-simple or Hugging Face (empty:
            fresh weights).
        resume_from: Earlier run's checkpoint to go on from where this one has no state yet: a folder or a
            URI (empty: none).
        model: Model family: char-gru, word-lstm or gpt2.
        preset: Named sizes and schedule of the model family.
        overrides: Fields of the preset to change, such as {hidden_size: 256, epochs: 5}.
        seed: Seed of the initial weights, of dropout and of the order of a GPT-2's rows.
        max_steps: Stop after this many steps in all (0: the preset's epochs).
        max_minutes: Stop after about this many minutes of this run (0: no limit).
        patience: Stop early after this many validations without a better loss (0: never).
        save_every_minutes: Save the state for an exact resume this often.
        keep: How many of the newest states to keep.
        resume: What to do with a state that is there: auto goes on from it, never starts afresh,
            changed goes on even though the dataset or a setting changed.
        precision: Number format of the matrix products: auto takes the fastest one of this machine.
        engine: What trains: textmill itself, or the package gpt-2-simple in a process of its own.
        checkpoint: Weights and tokenizer, enough to generate with; the state for an exact resume;
            metrics, samples and TensorBoard events.
        metrics: The main figures.
        mlpipeline_ui_metadata: Makes the dashboard offer a TensorBoard.
    """
    from textmill import artifacts
    from textmill import train as stage
    from textmill.checkpoints import publishing

    settings = stage.TrainSettings.of(
        model=model,
        preset=preset,
        overrides=overrides,
        seed=seed,
        max_steps=max_steps,
        max_minutes=max_minutes,
        patience=patience,
        save_every_minutes=save_every_minutes,
        keep=keep,
        resume=resume,
        precision=precision,
        engine=engine,
        publish_uri=publishing.own_uri(checkpoint.uri, checkpoint.path),
    )
    summary = stage.train(dataset.path, checkpoint.path, settings, *artifacts.paths(base, resume_from))
    parents = artifacts.parents(dataset, base, resume_from)
    checkpoint.metadata.update(artifacts.metadata(checkpoint.path, "checkpoint", **parents))
    metrics.metadata.update(artifacts.metrics(summary))
    artifacts.write_tensorboard_link(mlpipeline_ui_metadata.path, checkpoint.uri + "/tensorboard")
