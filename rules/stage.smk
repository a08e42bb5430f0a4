# Weights to where jobs can load them; on the machine that has the network.
rule stage_model:
    input:
        model=ancient(layout.MODELS.below(RESULTS)),
    output:
        layout.STAGED.below(RESULTS),
    log:
        layout.STAGE_LOGS.below(RESULTS),
    benchmark:
        layout.STAGE_BENCHMARKS.below(RESULTS)
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
