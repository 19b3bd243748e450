"""Packages, droplets, buildpacks and caches: stored by digest, checked before they are trusted."""
