# Commands as targets, with the configuration of the run: `snakemake relock --profile local`.
# They have no output, so they run whenever they are named, and only then. As commands they have more options:
# `python scripts/plan.py --help`.

for tool, (script, purpose) in TOOLS.items():

    rule:
        name:
            tool
        log:
            f"{RESULTS}/logs/{tool}.log",
        localrule: True
        conda:
            "../envs/environment.yaml"
        params:
            command=f"{COMMAND}/{script}",
            config=TOOL_CONFIG,
            called=CALLED,
            given=",".join(workflow.config_settings.config),
            options=tool_options(tool, workflow.resource_settings),
        message:
            f"{tool}: {purpose}"
        shell:
            "{params.command} --configfile {params.config:q} --called {params.called:q} --given={params.given:q}{params.options} --log {log:q}"
