"""A pipeline whose training is long enough to be killed three times; compiled by test_publishing.py."""

from kfp import dsl

from components.ingest.component import ingest
from components.normalize.component import normalize
from components.train.component import train
from pipelines.tasks import LIGHT, Hardware, apply


@dsl.pipeline(name="surviving")
def surviving(image: str, overrides: dict, max_steps: int, save_every_minutes: float):
    corpus = apply(ingest(source="sample:play"), LIGHT.on(image)).outputs["corpus"]
    dataset = apply(normalize(corpus=corpus, tokenizer="char"), LIGHT.on(image)).outputs["dataset"]
    trained = train(
        dataset=dataset,
        model="char-gru",
        preset="tiny",
        overrides=overrides,
        max_steps=max_steps,
        save_every_minutes=save_every_minutes,
    )
    trained.set_caching_options(False)
    apply(trained, Hardware(image=image, cpu="1", memory="2Gi", retries=5, backoff="1s"))
