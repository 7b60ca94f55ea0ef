"""llama.cpp's own server on a model file, until standard input ends: prints its address."""

import argparse
import sys

import xllamacpp

options = argparse.ArgumentParser()
options.add_argument("model")
options.add_argument("--lora", action="append", default=[])
options.add_argument("--alias")
options.add_argument("--key")
options.add_argument("--parallel", type=int, default=1)
options.add_argument("--context", type=int, default=512)
given = options.parse_args()

parameters = xllamacpp.CommonParams()
parameters.model.path = given.model
parameters.n_ctx = given.context
parameters.n_parallel = given.parallel
parameters.cpuparams.n_threads = 1
parameters.port = 0
parameters.endpoint_slots = True
if given.alias:
    parameters.model_alias = {given.alias}
if given.key:
    parameters.api_keys = [given.key]
if given.lora:
    parameters.lora_init_without_apply = True
    loras = []
    for path in given.lora:
        lora = xllamacpp.CommonAdapterLoraInfo()
        lora.path, lora.scale = path, 1.0
        loras.append(lora)
    parameters.lora_adapters = loras
server = xllamacpp.Server(parameters)
print(server.listening_address, flush=True)
sys.stdin.read()
