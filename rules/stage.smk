# Weights to where jobs can load them; on the machine that has the network.
rule stage_model:
    input:
        model=ancient(f"{RESULTS}/models/{{model}}.json"),
    output:
        f"{RESULTS}/staged/{{model}}.json",
    log:
        f"{RESULTS}/logs/stage_model/{{model}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/stage_model/{{model}}.tsv"
    priority: lambda wildcards: INPUTS.staging_priority(wildcards)
    retries: 2
    localrule: True
    conda:
        "../envs/environment.yaml"
    resources:
        staging=1,
    params:
        command=COMMAND,
        weights=f"{RESULTS}/staged/weights",
    message:
        "stage_model {wildcards.model}"
    shell:
        "{params.command}/stage.py --model {input.model:q} --weights {params.weights:q} --out {output:q} --log {log:q}"
