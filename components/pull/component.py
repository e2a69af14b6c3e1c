"""a released model -> base"""

from kfp import dsl

from components import pinned_image


@dsl.component(base_image=pinned_image(), install_kfp_package=False)
def pull(
    base: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    release: str = "124M",
    uri: str = "",
):
    """Fetch a released GPT-2 once, for all tasks that fine-tune it; KFP's cache keeps it for later runs.

    Args:
        release: Which of OpenAI's GPT-2 models.
        uri: Folder to fetch from instead of OpenAI's public bucket: https://, s3://, gs://, file:// or a
            path; it holds a model in OpenAI's or Hugging Face's format, or a folder named as the release
            that does.
        base: The model's files as they are published, with a manifest of their sizes and SHA-256.
        metrics: Its size.
    """
    from textmill import artifacts
    from textmill.checkpoints import pretrained as stage

    settings = stage.PullSettings.of(release=release, uri=uri)
    summary = stage.pull(base.path, settings)
    base.metadata.update(artifacts.metadata(base.path, "model"))
    metrics.metadata.update(artifacts.metrics(summary))
