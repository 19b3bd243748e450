"""Network policies: the policy server's HTTP face."""
