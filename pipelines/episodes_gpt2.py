"""New episodes of a series: a GPT-2 is fine-tuned on summaries, goes on from the beginning of one, and is served.

The summaries come from a wiki, its pages named by numbered series (docs/collecting.md has the description), or from
any other source: a crawl, a folder with an episode a file.
Hardware: 2 cores and 6 GB for the 124M model, or a GPU of 8 GB.
Expect after 1,500 steps, as the old system trained: whole sentences, the series' names, little of a plot.
Run it with: textmill run episodes_gpt2 --param source=mediawiki:episodes.yaml --param "prompt=Ivo and Maud were"
On a cluster, with serve_name: the model is served there in the end, or given to the service that is there
(docs/serving_on_kubernetes.md; the tasks' account needs a role for that).
"""

from kfp import dsl

from components import pinned_image
from components.generate.component import generate
from components.ingest.component import ingest
from components.normalize.component import normalize
from components.pull.component import pull
from components.report.component import report
from components.serve.component import serve
from components.train.component import train
from pipelines.tasks import DEPLOYING, LIGHT, WRITING, Hardware, apply, collecting, deploying


@dsl.pipeline(name="episodes-gpt2")
def episodes_gpt2(
    source: str = "sample:episodes",
    earlier: str = "",
    rules: str = "unicode_repair,episode_cleanup",
    base: str = "124M",
    base_uri: str = "",
    preset: str = "124M",
    overrides: dict = {},  # noqa: B006
    steps: int = 1500,
    max_minutes: float = 0.0,
    prompt: str = "",
    number: int = 5,
    length: int = 256,
    temperature: float = 0.7,
    top_p: float = 1.0,
    seed: int = 0,
    image: str = pinned_image(),
    train_image: str = pinned_image(),
    train_cpu: str = "4",
    train_memory: str = "10Gi",
    train_accelerator_type: str = "nvidia.com/gpu",
    train_accelerator_count: str = "0",
    train_nodes: dict = {},  # noqa: B006
    train_tolerations: list = [],  # noqa: B006
    serve_name: str = "",
    serve_namespace: str = "",
    serve_image: str = pinned_image("serve"),
    serve_cpu: str = "",
    serve_memory: str = "",
):
    """A GPT-2 is fine-tuned on episodes and writes new ones in whole sentences, with a report; then it is served.

    Args:
        source: Summaries of episodes: mediawiki:episodes.yaml or crawl:site.yaml, the file at any address, or the
            description itself; or a file each: a folder, glob, archive, URL, s3:// or gs:// address, sample:episodes.
        earlier: The corpus of an earlier run, so that only new and changed episodes are fetched: its artifact's
            address, with * the newest that matches (empty: fetch all).
        rules: Rule sets that clean the summaries, with commas between.
        base: The GPT-2 to start from: 124M, 355M, 774M or 1558M.
        base_uri: Where to pull the base from (empty: OpenAI's bucket).
        preset: Schedule of gpt2: 124M, 355M, 774M, 1558M, small or tiny; the sizes are the base's.
        overrides: Fields of the preset to change, such as {learning_rate: 0.00002, batch_size: 2}.
        steps: Stop training after this many steps.
        max_minutes: Stop training after about this many minutes (0: no limit).
        prompt: How each new episode begins (empty: as the model likes).
        number: How many new episodes.
        length: Most tokens of each; it is cut after its last full sentence.
        temperature: Below 1 safer, above 1 wilder, 0 always the likeliest.
        top_p: Draw from the fewest tokens that hold this probability together (1: from all).
        seed: Seed of the order of training, and of the episodes.
        image: Image of all tasks but train, by digest.
        train_image: Image of train, by digest; the gpu variant where it gets a GPU.
        train_cpu: Cores of train on a cluster.
        train_memory: Memory of train on a cluster.
        train_accelerator_type: Which accelerator train asks for.
        train_accelerator_count: How many accelerators train asks for, as text.
        train_nodes: Labels of the nodes that may run train, such as {nvidia.com/gpu.product: NVIDIA-L4}.
        train_tolerations: Taints of nodes that train puts up with, as Kubernetes writes tolerations.
        serve_name: On a cluster, the service that gets the model; it is made where there is none (empty: none gets it).
        serve_namespace: The service's namespace (empty: the tasks').
        serve_image: Image of a service, by digest.
        serve_cpu: Cores of each of its pods (empty: as it is; 2 of a new one).
        serve_memory: Memory of each of its pods (empty: as it is; 4Gi of a new one).
    """
    light = LIGHT.on(image)
    heavy = Hardware(
        image=train_image,
        cpu=train_cpu,
        memory=train_memory,
        accelerator_type=train_accelerator_type,
        accelerator_count=train_accelerator_count,
        node_selector=train_nodes,
        tolerations=train_tolerations,
        retries=3,
    )
    collected = collecting(apply(ingest(source=source, earlier=earlier), light))
    corpus = collected.outputs["corpus"]
    pulled = apply(pull(release=base, uri=base_uri), light).outputs["base"]
    normalized = normalize(corpus=corpus, base=pulled, rules=rules, tokenizer="bpe")
    dataset = apply(normalized, light).outputs["dataset"]
    trained = train(
        dataset=dataset,
        base=pulled,
        model="gpt2",
        preset=preset,
        overrides=overrides,
        max_steps=steps,
        max_minutes=max_minutes,
        seed=seed,
    )
    checkpoint = apply(trained, heavy).outputs["checkpoint"]
    written = generate(
        checkpoint=checkpoint,
        dataset=dataset,
        prompt=prompt,
        number=number,
        length=length,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        whole_sentences=True,
        more={"recapitalize": True},
    )
    texts = apply(written, WRITING.on(image)).outputs["texts"]
    reported = apply(report(dataset=dataset, checkpoint=checkpoint, texts=texts), light)
    with dsl.If(serve_name != ""):
        served = serve(
            checkpoint=checkpoint,
            name=serve_name,
            namespace=serve_namespace,
            image=serve_image,
            cpu=serve_cpu,
            memory=serve_memory,
            service={"page_kind": "episodes", "whole_sentences": True, "recapitalize": True},
        ).after(reported)
        deploying(apply(served, DEPLOYING.on(image)))
