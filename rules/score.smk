# The scores and the samples of one model on one data set.
rule score:
    input:
        task=ancient(layout.TASKS.below(RESULTS)),
        model=ancient(layout.MODELS.below(RESULTS)),
        predictions=INPUTS.missing_predictions,
    output:
        scores=layout.SCORES.below(RESULTS),
        samples=layout.SAMPLES.below(RESULTS),
        timings=layout.TIMINGS.below(RESULTS),
    log:
        layout.SCORE_LOGS.below(RESULTS),
    benchmark:
        layout.SCORE_BENCHMARKS.below(RESULTS)
    group:
        INPUTS.score_group
    conda:
        "../envs/environment.yaml"
    resources:
        runtime=INPUTS.score_minutes,
        mem_mb=INPUTS.score_memory_mb,
        slurm_partition=INPUTS.score_slurm("slurm_partition"),
        slurm_account=INPUTS.score_slurm("slurm_account"),
        qos=INPUTS.score_slurm("qos"),
        constraint=INPUTS.score_slurm("constraint"),
        slurm_extra=INPUTS.score_slurm("slurm_extra"),
    params:
        command=WARM,
        results=lambda wildcards: RESULTS,
        bits=INPUTS.bits,
    message:
        "score {wildcards.model} on {wildcards.dataset}"
    shell:
        "{params.command}/warm.py score $PPID score.py --task {input.task:q} --bits {params.bits} --model {input.model:q}"
        " --results {params.results:q} --scores {output.scores:q} --samples {output.samples:q}"
        " --timings {output.timings:q} --log {log:q}"
