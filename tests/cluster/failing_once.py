"""A pipeline whose only task fails at its first attempt; compiled by test_retries.py."""

from kfp import dsl, kubernetes


@dsl.component(base_image="python", install_kfp_package=False)
def fail_once():
    import os
    import sys

    attempt = int(os.environ.get("KFP_RETRY_INDEX") or 0)
    print("attempt", attempt)
    sys.exit(1 if attempt == 0 else 0)


@dsl.pipeline(name="failing-once")
def failing_once(image: str):
    task = fail_once().set_container_image(image).set_retry(2, backoff_duration="1s")
    task.set_caching_options(False)
    kubernetes.set_security_context(task, run_as_non_root=True)
