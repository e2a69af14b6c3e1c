"""Pipelines on a cluster, from the command line: submit, follow, list, watch. Talks to Kubeflow Pipelines' API server
through the kfp client; knows nothing of what the tasks do."""
