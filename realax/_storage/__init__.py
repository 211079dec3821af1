"""Files of arrays, and fingerprints that tell one run from another."""
