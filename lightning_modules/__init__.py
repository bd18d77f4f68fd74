"""The Lightning half: trains adapters from manifests and shards. It knows no Spark, no Delta and nothing of `jobs`."""
