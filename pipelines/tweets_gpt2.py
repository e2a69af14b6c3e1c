"""Posts in the manner of each author: one GPT-2 is fine-tuned for each query's posts, and writes new ones.

Queries stand in a file, one a line: accounts, hashtags, searches on Mastodon, Bluesky or X. They are collected by one
task, as a service counts requests by key and address; from there each query goes its own way, and one without new
posts is not learned from again. Instead of queries a folder of posts may be given, a file for each author.
Hardware: 2 cores and 6 GB for the 124M model, or a GPU of 8 GB, for each file that is trained on at the same time.
Expect after 25 steps of the 124M model: posts of the right length and subject; after 1,000 the author's manner, and
on few hundred posts copies of them: the report says how much.
Run it with: textmill run tweets_gpt2 --param source=mastodon:queries.txt
"""

from kfp import dsl

from components import pinned_image
from components.generate.component import generate
from components.ingest.component import ingest
from components.list_items.component import list_items
from components.normalize.component import normalize
from components.pull.component import pull
from components.report.component import report
from components.train.component import train
from pipelines.tasks import LIGHT, WRITING, Hardware, apply, collecting

MOST_AT_ONCE = 8  # queries worked on side by side


@dsl.pipeline(name="tweets-gpt2")
def tweets_gpt2(
    source: str = "sample:posts",
    earlier: str = "",
    items: str = "",
    minimum_characters: int = 500,
    rules: str = "unicode_repair,tweet_cleanup",
    base: str = "124M",
    base_uri: str = "",
    preset: str = "124M",
    overrides: dict = {},  # noqa: B006
    steps: int = 1000,
    max_minutes: float = 0.0,
    prompt: str = "",
    number: int = 30,
    most_characters: int = 280,
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
):
    """For each query a GPT-2 is fine-tuned on its posts and writes new ones, with a report; queries go in parallel.

    Args:
        source: The service and its queries: mastodon:queries.txt, bluesky:… or x:…, the file at any address, or the
            queries themselves, mastodon:{queries: ["@jo@soil.example", "#bread"]}. Or files of posts, one for each
            author: a folder, archive, URL, s3:// or gs:// address, sample:posts.
        earlier: The corpus of an earlier run, so that only newer posts are asked for: its artifact's address, with *
            the newest that matches (empty: ask for all).
        items: Which of the queries or files: names or globs, with commas between (empty: all).
        minimum_characters: Leave out queries whose posts have fewer characters; too little to learn from.
        rules: Rule sets that clean the posts, with commas between.
        base: The GPT-2 to start from: 124M, 355M, 774M or 1558M.
        base_uri: Where to pull the base from (empty: OpenAI's bucket).
        preset: Schedule of gpt2: 124M, 355M, 774M, 1558M, small or tiny; the sizes are the base's.
        overrides: Fields of the preset to change, such as {learning_rate: 0.00002, batch_size: 2}.
        steps: Stop training after this many steps.
        max_minutes: Stop training after about this many minutes (0: no limit).
        prompt: How each new post begins (empty: as the model likes).
        number: New posts for each query.
        most_characters: Most characters of a post.
        temperature: Below 1 safer, above 1 wilder, 0 always the likeliest.
        top_p: Draw from the fewest tokens that hold this probability together (1: from all).
        seed: Seed of the order of training, and of the posts.
        image: Image of all tasks but train, by digest.
        train_image: Image of train, by digest; the gpu variant where it gets a GPU.
        train_cpu: Cores of each train on a cluster.
        train_memory: Memory of each train on a cluster.
        train_accelerator_type: Which accelerator train asks for.
        train_accelerator_count: How many accelerators each train asks for, as text.
        train_nodes: Labels of the nodes that may run train, such as {nvidia.com/gpu.product: NVIDIA-L4}.
        train_tolerations: Taints of nodes that train puts up with, as Kubernetes writes tolerations.
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
    queries = apply(list_items(corpus=corpus, items=items, minimum_characters=minimum_characters), light)
    with dsl.ParallelFor(queries.outputs["Output"], parallelism=MOST_AT_ONCE) as address:
        # The same posts are the same artifact in every run: what was made of them is taken from the cache.
        posts = dsl.importer(artifact_uri=address, artifact_class=dsl.Dataset, reimport=False)
        normalized = normalize(corpus=posts.output, base=pulled, rules=rules, tokenizer="bpe")
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
            most_characters=most_characters,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
        )
        texts = apply(written, WRITING.on(image)).outputs["texts"]
        apply(report(dataset=dataset, checkpoint=checkpoint, texts=texts, title=address), light)
