"""App manifests: parsed and checked (parse), compared with what is (diff), applied (apply), written (generate)."""
