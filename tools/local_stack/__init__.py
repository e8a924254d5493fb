"""The local stack: three accounts on a local cloud, the job that the demo shows, and its observation."""
