"""Checks objects in the simplest way: a pool of threads sends a HEAD for each. Prints the objects per second."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.config import Config

endpoint, bucket, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
s3 = boto3.client(
    "s3",
    endpoint_url=endpoint,
    region_name="ap-northeast-1",
    aws_access_key_id="AKID",
    aws_secret_access_key="secret",
    config=Config(max_pool_connections=threads, s3={"addressing_style": "path"}),
)
objects = int(bucket.rpartition("-")[2])
start = time.monotonic()
with ThreadPoolExecutor(threads) as pool:
    heads = pool.map(lambda n: s3.head_object(Bucket=bucket, Key=f"shop/{n:08}")["SSEKMSKeyId"], range(objects))
    assert len(set(heads)) == 1
print(objects / (time.monotonic() - start))
