# The predictions of one model for one shard of a data set; the only rule that takes GPUs.
rule infer:
    input:
        model=ancient(layout.MODELS.below(RESULTS)),
        staged=INPUTS.missing_staged,
        requests=ancient(layout.REQUESTS.below(RESULTS)),
    output:
        KEPT(layout.PREDICTIONS.below(RESULTS)),
    log:
        layout.INFER_LOGS.below(RESULTS),
    benchmark:
        layout.INFER_BENCHMARKS.below(RESULTS)
    wildcard_constraints:
        model=f"(?!({ENDPOINTS})/){layout.FIELDS['model']}" if ENDPOINTS else layout.FIELDS["model"],
    priority: lambda wildcards: INPUTS.priority(wildcards)
    group:
        INPUTS.group
    conda:
        "../envs/environment.yaml"
    threads: lambda wildcards: INPUTS.model(wildcards).settings.cpus
    resources:
        gpu=lambda wildcards: INPUTS.model(wildcards).settings.num_gpus,
        worker=1,
        nodes=1,  # else Slurm may take the GPUs of a job from several nodes
        runtime=INPUTS.minutes,
        mem_mb=INPUTS.memory_mb,
        slurm_partition=INPUTS.slurm("slurm_partition"),
        slurm_account=INPUTS.slurm("slurm_account"),
        qos=INPUTS.slurm("qos"),
        constraint=INPUTS.slurm("constraint"),
        slurm_extra=INPUTS.slurm("slurm_extra"),
    params:
        command=COMMAND,
        staged=layout.STAGED.below(RESULTS),
    message:
        "infer {wildcards.model} on {wildcards.dataset}, shard {wildcards.shard}"
    shell:
        "{params.command}/infer.py --model {input.model:q} --staged {params.staged:q} --requests {input.requests:q}"
        " --out {output:q} --threads {threads} --owner $PPID --log {log:q}"


# The same from an endpoint: its jobs need a network and no device, so each runs where Snakemake does, by itself.
rule infer_endpoint:
    input:
        model=ancient(layout.MODELS.below(RESULTS)),
        staged=INPUTS.missing_staged,
        requests=ancient(layout.REQUESTS.below(RESULTS)),
    output:
        update(layout.PREDICTIONS.below(RESULTS)),  # not deleted: another run may have paid for it meanwhile
    log:
        layout.INFER_LOGS.below(RESULTS),
    benchmark:
        layout.INFER_BENCHMARKS.below(RESULTS)
    wildcard_constraints:
        model=ENDPOINTS or "(?!)",
    priority: lambda wildcards: INPUTS.priority(wildcards)
    localrule: True
    conda:
        "../envs/environment.yaml"
    threads: lambda wildcards: INPUTS.model(wildcards).settings.cpus
    resources:
        worker=1,
    params:
        command=COMMAND,
        staged=layout.STAGED.below(RESULTS),
    message:
        "ask {wildcards.model} about {wildcards.dataset}, shard {wildcards.shard}"
    shell:
        "{params.command}/infer.py --model {input.model:q} --staged {params.staged:q} --requests {input.requests:q}"
        " --out {output:q} --threads {threads} --owner $PPID --log {log:q}"
