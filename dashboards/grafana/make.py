#!/usr/bin/env python3
"""Makes the boards (boards/*.json) of the panels below.

    make.py            writes them
    make.py --check    says which are out of date, and fails if any is
"""

import json
import sys
from pathlib import Path

BOARDS = Path(__file__).parent / "boards"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
# Panels select by these variables; the board of one worker has exactly one instance.
WORKER = 'job="lapidary-worker", instance=~"$instance"'
GATEWAY = 'job="lapidary-gateway"'
RATE = "$__rate_interval"


def rate(metric, by="", more="", scope=WORKER):
    """The sum of a counter's rates."""
    select = ", ".join(part for part in (scope, more) if part)
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{{{select}}}[{RATE}]))"


def quantiles(metric, by="", more="", scope=WORKER):
    """Median and 95th percentile over all instances: buckets are added before the quantile is taken."""
    labels = f"{by}, le" if by else "le"
    legend = f" {{{{{by}}}}}" if by else ""
    return [
        (f"histogram_quantile({q}, {rate(metric + '_bucket', labels, more, scope)})", f"p{round(q * 100)}{legend}")
        for q in (0.5, 0.95)
    ]


def mean(metric, more="", scope=WORKER):
    """The mean of what was observed in the interval, not since the start."""
    return f"{rate(metric + '_sum', more=more, scope=scope)} / {rate(metric + '_count', more=more, scope=scope)}"


def gauge(metric, more=""):
    select = ", ".join(part for part in (WORKER, more) if part)
    return f"{metric}{{{select}}}"


def graph(title, unit, about, queries, limit=None, stack=False):
    """A panel over time. `limit`: the series of an alert's threshold, drawn as a dashed line."""
    targets = list(queries)
    overrides = []
    if limit:
        targets.append((limit, "limit"))
        overrides.append(
            {
                "matcher": {"id": "byName", "options": "limit"},
                "properties": [
                    {"id": "color", "value": {"mode": "fixed", "fixedColor": "red"}},
                    {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}},
                    {"id": "custom.fillOpacity", "value": 0},
                ],
            }
        )
    custom = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never"}
    if stack:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    return {
        "type": "timeseries",
        "title": title,
        "description": about,
        "width": 12,
        "height": 8,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": custom}, "overrides": overrides},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
    }


def stat(title, unit, about, query, steps=((None, "green"),)):
    """A panel of one number; `steps`: from which value on it has which colour."""
    colours = [{"value": value, "color": colour} for value, colour in steps]
    return {
        "type": "stat",
        "title": title,
        "description": about,
        "width": 4,
        "height": 4,
        "targets": [(query, "")],
        "fieldConfig": {
            "defaults": {"unit": unit, "thresholds": {"mode": "absolute", "steps": colours}},
            "overrides": [],
        },
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"},
    }


def heat(title, unit, about, metric, more=""):
    """A panel of a histogram over time."""
    return {
        "type": "heatmap",
        "title": title,
        "description": about,
        "width": 12,
        "height": 8,
        "targets": [(rate(metric + "_bucket", "le", more), "{{le}}")],
        "format": "heatmap",
        "fieldConfig": {"defaults": {}, "overrides": []},
        "options": {"calculate": False, "yAxis": {"unit": unit}, "color": {"scheme": "Oranges"}},
    }


def variable(name, label, query, many=True):
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "multi": many,
        "includeAll": many,
        "allValue": ".*" if many else None,
        "current": {"text": "All", "value": "$__all"} if many else {},
    }


def board(name, title, about, panels, one_worker=False):
    """The JSON of a board: panels from left to right, a new row where one does not fit."""
    placed, x, y, row = [], 0, 0, 0
    for number, panel in enumerate(panels, 1):
        panel = dict(panel)
        width, height = panel.pop("width"), panel.pop("height")
        query_format = panel.pop("format", "time_series")
        if x + width > 24:
            x, y, row = 0, y + row, 0
        panel["id"] = number
        panel["datasource"] = DATASOURCE
        panel["gridPos"] = {"x": x, "y": y, "w": width, "h": height}
        panel["targets"] = [
            {
                "refId": chr(ord("A") + index),
                "datasource": DATASOURCE,
                "expr": expr,
                "legendFormat": legend or "__auto",
                "format": query_format,
            }
            for index, (expr, legend) in enumerate(panel["targets"])
        ]
        placed.append(panel)
        x, row = x + width, max(row, height)
    return {
        "uid": f"lapidary-{name}",
        "title": f"Lapidary / {title}",
        "description": about,
        "tags": ["lapidary"],
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "schemaVersion": 38,
        "time": {"from": "now-3h", "to": "now"},
        "links": [
            {"type": "dashboards", "title": "Boards", "tags": ["lapidary"], "asDropdown": True, "keepTime": True},
            {"type": "link", "title": "What to do", "url": "${runbooks}/OPERATING.md", "targetBlank": True},
        ],
        "templating": {
            "list": [
                {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus"},
                variable(
                    "instance", "Worker", 'label_values(lapidary_worker_up{job="lapidary-worker"}, instance)', not one_worker
                ),
                {
                    "type": "textbox",
                    "name": "runbooks",
                    "label": "Where docs/ is",
                    "query": "/docs",
                    "current": {"text": "/docs", "value": "/docs"},
                },
            ]
        },
        "annotations": {
            "list": [
                {
                    "name": "Alerts",
                    "datasource": DATASOURCE,
                    "enable": True,
                    "iconColor": "red",
                    "expr": 'ALERTS{alertname=~"Lapidary.*", alertstate="firing"}',
                    "titleFormat": "{{alertname}}",
                    "textFormat": "{{instance}} {{model}}",
                }
            ]
        },
        "panels": placed,
    }


RESPONSE = graph(
    "Response time",
    "s",
    "From submission to the result, of interactive jobs and of the health probe. Over the limit: LapidaryResponseTimeHigh.",
    [("lapidary:response_time_seconds:mean5m", "mean"), ("lapidary:response_time_seconds:p95_5m", "p95")],
    limit="lapidary:threshold:response_time_seconds",
)
SUCCESS = graph(
    "Success rate",
    "percentunit",
    "Share of jobs with an answer; filtered and cancelled jobs do not count. Under the limit: LapidarySuccessRateLow.",
    [("lapidary:jobs_success:ratio10m", "success")],
    limit="lapidary:threshold:success_ratio",
)
DECODE = graph(
    "Tokens a second of each worker",
    "short",
    "Decode rate over the last ten busy seconds; an idle worker keeps its last one. Under the limit while busy: LapidaryGenerationSlow.",
    [(gauge("lapidary_decode_tokens_per_second"), "{{instance}}")],
    limit="lapidary:threshold:decode_tokens_per_second",
)
MEMORY = graph(
    "Memory",
    "bytes",
    "Physical memory that each worker holds. Over the limit: LapidaryMemoryHigh.",
    [(gauge("lapidary_resident_memory_bytes"), "{{instance}}")],
    limit="lapidary:threshold:memory_bytes",
)
OUTCOMES = graph(
    "Jobs by outcome",
    "ops",
    "Results stored, by status.",
    [(rate("lapidary_jobs_total", "status"), "{{status}}")],
    stack=True,
)
DEPTH = graph(
    "Jobs on the queue",
    "short",
    "Jobs that wait, by model and class; those lent to workers do not, and those that wait for a retry count everywhere. Batches are fed in a window, so bulk stays bounded.",
    [("lapidary:queue_depth:max", "{{model}} {{class}}")],
)
BUSY = graph(
    "Busy",
    "percentunit",
    "Share of the time that each engine computes.",
    [("instance:lapidary_engine_busy:ratio2m", "{{instance}}")],
)

BOARDS_MADE = {
    "overview": board(
        "overview",
        "Overview",
        "Whether all is well, and where to look if it is not.",
        [
            stat("Workers", "short", "Workers that are announced.", "sum(lapidary:live_workers:max)", ((None, "red"), (1, "green"))),
            stat("Alerts", "short", "Alerts that fire now.", 'count(ALERTS{alertname=~"Lapidary.*", alertstate="firing"}) or vector(0)', ((None, "green"), (1, "red"))),
            stat("Waiting", "short", "Jobs on the queue.", "sum(lapidary:queue_depth:max)"),
            stat("Unfinished", "short", "Items of unfinished batches without a result.", "sum(lapidary:unfinished_items:max)"),
            stat("Jobs a second", "ops", "Results stored.", rate("lapidary_jobs_total")),
            stat("Tokens a second", "short", "Tokens generated by all workers together.", rate("lapidary_engine_decode_tokens_total")),
            RESPONSE,
            SUCCESS,
            DECODE,
            MEMORY,
            OUTCOMES,
            DEPTH,
            graph(
                "Requests to the gateway",
                "reqps",
                "By status; what the client asks for wrongly is 4xx, what went wrong here is 5xx.",
                [(rate("lapidary_gateway_requests_total", "status", scope=GATEWAY), "{{status}}")],
                stack=True,
            ),
            BUSY,
        ],
    ),
    "latency": board(
        "latency",
        "Latency",
        "Where a job's time goes, from submission to its result.",
        [
            RESPONSE,
            graph(
                "Mean time by stage",
                "s",
                "What a job spends in each stage of its last attempt.",
                [(f'{rate("lapidary_stage_duration_seconds_sum", "stage")} / {rate("lapidary_stage_duration_seconds_count", "stage")}', "{{stage}}")],
                stack=True,
            ),
            graph("Waiting for a worker", "s", "From submission to the start of the attempt, by class.", quantiles("lapidary_queue_wait_seconds", "class")),
            heat("Waiting of interactive jobs", "s", "How many waited how long.", "lapidary_queue_wait_seconds", 'class="interactive"'),
            graph("Time to the first token", "s", "From the start of the attempt to the first generated token.", quantiles("lapidary_time_to_first_token_seconds", "class")),
            graph("Time per token", "s", "Decode time of a job by the tokens after the first.", quantiles("lapidary_time_per_output_token_seconds", "class")),
            graph("Calls on queue and results store", "s", "Round trips of workers; a call may carry many jobs.", quantiles("lapidary_store_call_duration_seconds", "call")),
            graph(
                "Requests to the gateway",
                "s",
                "From the head of a request to the head of its answer, by address.",
                quantiles("lapidary_gateway_request_duration_seconds", "route", scope=GATEWAY),
            ),
        ],
    ),
    "engine": board(
        "engine",
        "Engine",
        "What the engines compute, and how full they are.",
        [
            DECODE,
            graph(
                "Tokens computed",
                "short",
                "Prompt tokens read and answer tokens generated, a second, by all workers.",
                [
                    (rate("lapidary_engine_prefill_tokens_total"), "prefill"),
                    (rate("lapidary_engine_decode_tokens_total"), "decode"),
                ],
            ),
            BUSY,
            graph(
                "Sequences",
                "short",
                "Those that hold blocks of the cache, and those that wait for room.",
                [
                    (f"sum ({gauge('lapidary_sequences_running')})", "running"),
                    (f"sum ({gauge('lapidary_sequences_waiting')})", "waiting"),
                ],
            ),
            heat("Sequences of a step", "short", "The more there are in a step, the more rows share the reading of the weights.", "lapidary_step_sequences"),
            heat("Tokens of a step", "short", "Prefill and decode together.", "lapidary_step_tokens"),
            graph("Time of a step", "s", "Median and 95th percentile.", quantiles("lapidary_step_duration_seconds")),
            graph(
                "Blocks of the key-value cache",
                "percentunit",
                "Share in use, by pool. At 100 % sequences wait, or lose their blocks.",
                [(f"sum by (pool) ({gauge('lapidary_kv_blocks_used')}) / sum by (pool) ({gauge('lapidary_kv_blocks')})", "{{pool}}")],
            ),
            graph(
                "Hits of the prefix cache",
                "percentunit",
                "Share of prompt tokens whose keys and values were there already.",
                [(f"{rate('lapidary_prefix_cache_hits_tokens_total')} / {rate('lapidary_prefix_cache_queries_tokens_total')}", "hits")],
            ),
            graph("Preemptions", "ops", "Sequences whose blocks were taken away to be computed again.", [(rate("lapidary_preemptions_total"), "preemptions")]),
            graph(
                "Images",
                "ops",
                "Images decoded and resized, and views of them that the vision tower encoded.",
                [
                    (rate("lapidary_image_decoding_duration_seconds_count"), "images"),
                    (rate("lapidary_views_encoded_total"), "views"),
                ],
            ),
            graph(
                "Length of prompts and answers",
                "short",
                "Mean tokens of a job.",
                [(mean("lapidary_prompt_length_tokens"), "prompt"), (mean("lapidary_answer_length_tokens"), "answer")],
            ),
        ],
    ),
    "queue": board(
        "queue",
        "Queue and results",
        "What waits, what comes back, and what is lost on the way.",
        [
            DEPTH,
            graph("Unfinished items", "short", "Items of unfinished batches without a result, on the queue or not yet.", [("lapidary:unfinished_items:max", "{{model}}")]),
            graph(
                "Time to drain",
                "s",
                "What unfinished batches need at the present rate; nothing while there are none. Over the limit: LapidaryDrainLong.",
                [("sum(lapidary:drain_seconds:estimate) or vector(0)", "estimate")],
                limit="lapidary:threshold:drain_seconds",
            ),
            graph("Workers", "short", "Workers that are announced, by model.", [("lapidary:live_workers:max", "{{model}}")]),
            OUTCOMES,
            graph("Failures by code", "ops", "Jobs without an answer.", [(rate("lapidary_jobs_total", "code", 'code!="NONE"'), "{{code}}")]),
            graph("Deliveries settled", "ops", "How loans of jobs ended.", [(rate("lapidary_settles_total", "settle"), "{{settle}}")]),
            graph(
                "What comes back",
                "ops",
                "Attempts of jobs that had been begun before, and deliveries that could not be settled. The latter: LapidarySettleErrors.",
                [
                    (rate("lapidary_redeliveries_total"), "redelivered"),
                    (rate("lapidary_settle_errors_total"), "not settled"),
                ],
            ),
            graph(
                "Oldest job under way",
                "s",
                "For how long each worker has had the job that it has had longest. Over the limit: LapidaryJobOverdue.",
                [(gauge("lapidary_oldest_job_seconds"), "{{instance}}")],
                limit="lapidary:threshold:job_seconds",
            ),
            graph("Stores away", "short", "1 while a worker does not reach its store: LapidaryStoreAway.", [(gauge("lapidary_store_away"), "{{instance}} {{store}}")]),
            graph(
                "Steward",
                "short",
                "Processes that feed and sweep: one. None: LapidaryNobodyFeeds.",
                [("sum(lapidary_steward_lease_held)", "holders"), ("max(lapidary_steward_outstanding)", "fed and unfinished")],
            ),
            graph("Put right by the steward", "ops", "Jobs expired, published again, given up; media collected.", [(rate("lapidary_steward_swept_total", "action", scope=""), "{{action}}")]),
        ],
    ),
    "filter": board(
        "filter",
        "Filter",
        "What the content policy finds, and what it costs.",
        [
            graph("Verdicts", "ops", "What detectors decided, by action.", [(rate("lapidary_filter_verdicts_total", "action, mode"), "{{action}} {{mode}}")], stack=True),
            graph(
                "Found, by detector",
                "ops",
                "Verdicts other than `allow`.",
                [(rate("lapidary_filter_verdicts_total", "detector, action", 'action!="allow"'), "{{detector}} {{action}}")],
            ),
            graph(
                "Jobs refused",
                "ops",
                "Results with the status `filtered`, by what was refused.",
                [(rate("lapidary_jobs_total", "code", 'status="filtered", code=~"CONTENT_FILTERED|RESPONSE_FILTERED"'), "{{code}}")],
            ),
            graph("Detectors that could not look", "ops", "Too late, or broken down: LapidaryFilterFailing.", [(rate("lapidary_filter_errors_total", "detector"), "{{detector}}")]),
            graph(
                "Poor answers",
                "percentunit",
                "Share of the jobs with an answer that a detector of quality found this in.",
                [(f"{rate('lapidary_poor_answers_total', 'flaw')} / on () group_left () ({rate('lapidary_answer_length_tokens_count')} > 0)", "{{flaw}}")],
            ),
            graph(
                "Second answers",
                "ops",
                "Answers made once more because the first one was poor, by whether they were better.",
                [(rate("lapidary_second_answers_total", "outcome"), "{{outcome}}")],
                stack=True,
            ),
            graph("Time of a look", "s", "95th percentile and median, by detector.", quantiles("lapidary_filter_duration_seconds", "detector")),
            graph("Time of a job in the filter", "s", "All detectors together, before and after the engine.", quantiles("lapidary_stage_duration_seconds", "", 'stage="filter"')),
        ],
    ),
    "worker": board(
        "worker",
        "One worker",
        "One process, from its start on.",
        [
            stat("Serves", "bool_yes_no", "Whether it takes jobs: LapidaryWorkerNotServing.", gauge("lapidary_worker_up"), ((None, "red"), (1, "green"))),
            stat("Started in", "s", "From its start until it served.", gauge("lapidary_startup_seconds")),
            stat("Jobs under way", "short", "Received and not settled.", f"sum ({gauge('lapidary_jobs_running')})"),
            stat("Tokens a second", "short", "Decode rate over its last ten busy seconds.", gauge("lapidary_decode_tokens_per_second")),
            stat("Memory", "bytes", "Physical memory it holds.", gauge("lapidary_resident_memory_bytes")),
            stat("Most memory", "bytes", "The most it ever held.", gauge("lapidary_peak_resident_memory_bytes")),
            DECODE,
            MEMORY,
            OUTCOMES,
            graph("Jobs under way", "short", "By class.", [(gauge("lapidary_jobs_running"), "{{class}}")]),
            graph("Attempts", "ops", "Attempts begun, and those of jobs that had been begun before.", [(rate("lapidary_attempts_total"), "begun"), (rate("lapidary_redeliveries_total"), "again")]),
            graph("Calls on queue and results store", "s", "Round trips.", quantiles("lapidary_store_call_duration_seconds", "call")),
            graph(
                "Sequences",
                "short",
                "Those that hold blocks of the cache, and those that wait for room.",
                [(gauge("lapidary_sequences_running"), "running"), (gauge("lapidary_sequences_waiting"), "waiting")],
            ),
            graph("Time of a step", "s", "Median and 95th percentile.", quantiles("lapidary_step_duration_seconds")),
            graph("Traces", "ops", "Spans that the collector took, and those that were dropped; 0 without `--otlp`.", [(rate("lapidary_spans_total", "outcome"), "{{outcome}}")]),
        ],
        one_worker=True,
    ),
}


def main():
    check = sys.argv[1:] == ["--check"]
    stale = []
    for name, made in BOARDS_MADE.items():
        path = BOARDS / f"{name}.json"
        text = json.dumps(made, indent=2) + "\n"
        if check:
            if not path.exists() or path.read_text() != text:
                stale.append(path.name)
        else:
            path.write_text(text)
    if stale:
        sys.exit(f"out of date: {', '.join(stale)}; run dashboards/grafana/make.py")


main()
