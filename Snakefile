# Shardmark: models x data sets -> requests -> predictions -> scores -> report.
# The plan is made here, while this file is parsed; docs/architecture.md says why. Rules are in rules/.
import sys
from pathlib import Path

from snakemake.dag import DAG
from snakemake.logging import logger
from snakemake.scheduling.job_scheduler import JobScheduler
from snakemake.utils import min_version

min_version("9.17")

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

import shardmark.command  # first: from here on, an interrupt has no traceback
from shardmark import layout
from shardmark.workflow.completeness import missing_targets, trusts_files
from shardmark.workflow.progress import Course
from shardmark.workflow.rule_inputs import SHARDS, Inputs
from shardmark.workflow.interrupts import terminates
from shardmark.plan.machine import use_scratch
from shardmark.workflow.snakefile import (
    TOOLS,
    check_or_exit,
    cores_here,
    fail,
    finish,
    local_limits,
    not_planned,
    plan_or_exit,
    prepare,
    prepare_cluster,
    python_command,
    tool_config,
    tool_options,
    tool_wanted,
)
from shardmark.workflow.unfinished import publish_unfinished

if not workflow.overwrite_configfiles:
    check_or_exit(Path("config/config.yaml"))

    configfile: "config/config.yaml"


RESULTS = config.get("results", "results")
COMMAND = python_command(workflow)
CALLED = " + ".join(map(str, workflow.configfiles)) or "--config"

# Jobs on a cluster parse this file as well: they know their files from the wildcards and need no plan.
# Nor do the commands among the targets: `relock` must work where a plan is refused.
TOOL = workflow.is_main_process and tool_wanted()
TOOL_CONFIG = tool_config(config, RESULTS) if TOOL else ""
PLANS = workflow.is_main_process and not TOOL
CORES = cores_here(workflow.resource_settings)
LOCAL = PLANS and CORES is not None
PLAN = (
    plan_or_exit(config, CALLED, workflow.config_settings.config, CORES, workflow.resource_settings.nodes)
    if PLANS
    else None
)
TARGETS = PLAN.targets() if PLAN else not_planned if TOOL else []
INPUTS = Inputs(
    RESULTS,
    config,
    main=workflow.is_main_process,
    order=PLAN.model_names() if PLAN else [],
    bundles=PLAN.bundles if PLAN and not LOCAL else [],
    defaults=workflow.resource_settings.default_resources,
    overrides=workflow.resource_settings.overwrite_resources.get("infer"),
)

if PLAN and not LOCAL:
    prepare_cluster(workflow.basedir)

use_scratch(config)
terminates(JobScheduler)
trusts_files(DAG)

# Its words are Snakemake's own, so they are on the terminal and in the log of the run.
COURSE = Course(PLAN, logger.info, logger.error)

# What is there when a job of several shards is tried again is right, and must not be deleted.
KEPT = str if LOCAL else update

# On a cluster, the shards of a job run one after the other (worker=1), and it asks for its model's GPUs once.
for name, count in (local_limits(config) if LOCAL else {"worker": 1}).items():
    if name not in workflow.global_resources:
        workflow.resource_settings.resources[name] = count

for name in INPUTS.group_names():
    workflow.parent_groupids[name] = SHARDS  # so that group-components of the profile counts for all of them


resource_scopes:
    worker="local",


wildcard_constraints:
    **layout.FIELDS,


rule all:
    default_target: True
    input:
        TARGETS,
    localrule: True
    message:
        "all scores and the report are there"


onstart:
    prepare(workflow)
    COURSE.begin()


onsuccess:
    COURSE.end()
    finish(PLAN, missing_targets(workflow.dag))


onerror:
    fail(PLAN)
    COURSE.fail()
    publish_unfinished(PLAN, COURSE.begun, workflow, COMMAND)


include: "rules/stage.smk"
include: "rules/infer.smk"
include: "rules/score.smk"
include: "rules/report.smk"
include: "rules/tools.smk"
