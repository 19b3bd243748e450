"""Service brokers: the Open Service Broker API and OSMAPI, as a client, and the jobs that speak it."""
