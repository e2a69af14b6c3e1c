"""Posts in the manner of each author: one GPT-2 is fine-tuned for each file of posts, and writes new ones.

The files are what a collector brings, a query or an author each; until then a folder of them, .txt, .csv or .jsonl.
Hardware: 2 cores and 6 GB for the 124M model, or a GPU of 8 GB, for each file that is trained on at the same time.
Expect after 25 steps of the 124M model: posts of the right length and subject; after 1,000 the author's manner, and
on few hundred posts copies of them: the report says how much.
Run it with: textmill run tweets_gpt2 --param source=queries/
"""

from kfp import dsl

from components import pinned_image
from components.generate.component import generate
from components.ingest.component import ingest
from components.list_items.component import list_items
from components.normalize.component import normalize
from components.pull.component import pull
from components.report.component import report
from components.take_items.component import take_items
from components.train.component import train
from pipelines.tasks import LIGHT, Hardware, apply

MOST_AT_ONCE = 8  # files worked on side by side


@dsl.pipeline(name="tweets-gpt2")
def tweets_gpt2(
    source: str = "sample:posts",
    items: str = "",
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
):
    """For each file of posts a GPT-2 is fine-tuned and writes new posts, with a report; the files in parallel.

    Args:
        source: Files of posts, one for each query or author: a folder, archive, URL, s3:// or gs:// address, or
            sample:posts.
        items: Which of the files: names or globs, with commas between (empty: all).
        rules: Rule sets that clean the posts, with commas between.
        base: The GPT-2 to start from: 124M, 355M, 774M or 1558M.
        base_uri: Where to pull the base from (empty: OpenAI's bucket).
        preset: Schedule of gpt2: 124M, 355M, 774M, 1558M, small or tiny; the sizes are the base's.
        overrides: Fields of the preset to change, such as {learning_rate: 0.00002, batch_size: 2}.
        steps: Stop training after this many steps.
        max_minutes: Stop training after about this many minutes (0: no limit).
        prompt: How each new post begins (empty: as the model likes).
        number: New posts for each file.
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
    """
    light = LIGHT.on(image)
    writing = Hardware(image=image, cpu="2", memory="6Gi", retries=2)
    heavy = Hardware(
        image=train_image,
        cpu=train_cpu,
        memory=train_memory,
        accelerator_type=train_accelerator_type,
        accelerator_count=train_accelerator_count,
        retries=3,
    )
    corpus = apply(ingest(source=source), light).outputs["corpus"]
    pulled = apply(pull(release=base, uri=base_uri), light).outputs["base"]
    files = apply(list_items(corpus=corpus, items=items), light)
    with dsl.ParallelFor(files.output, parallelism=MOST_AT_ONCE) as item:
        posts = apply(take_items(corpus=corpus, items=item), light).outputs["taken"]
        normalized = normalize(corpus=posts, base=pulled, rules=rules, tokenizer="bpe")
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
        texts = apply(written, writing).outputs["texts"]
        apply(report(dataset=dataset, checkpoint=checkpoint, texts=texts, title=item), light)
