"""The local stack: three accounts on a local cloud. Also the demo's job, and functions that observe the accounts."""
