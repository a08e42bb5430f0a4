# The scores and the samples of one model on one data set.
rule score:
    input:
        task=ancient(f"{RESULTS}/tasks/{{dataset}}@{{task}}.jsonl"),
        model=ancient(f"{RESULTS}/models/{{model}}.json"),
        predictions=ancient(INPUTS.missing_predictions),
    output:
        scores=f"{RESULTS}/scores/{{model}}/{{dataset}}@{{task}}.json",
        samples=f"{RESULTS}/samples/{{model}}/{{dataset}}@{{task}}.jsonl",
    log:
        f"{RESULTS}/logs/score/{{model}}/{{dataset}}@{{task}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/score/{{model}}/{{dataset}}@{{task}}.tsv"
    conda:
        "../envs/environment.yaml"
    params:
        command=COMMAND,
        requests=f"{RESULTS}/requests/{{dataset}}",
        predictions=f"{RESULTS}/predictions/{{model}}/{{dataset}}",
    message:
        "score {wildcards.model} on {wildcards.dataset}"
    shell:
        "{params.command}/score.py --task {input.task:q} --model {input.model:q} --requests {params.requests:q}"
        " --predictions {params.predictions:q} --scores {output.scores:q} --samples {output.samples:q} --log {log:q}"
