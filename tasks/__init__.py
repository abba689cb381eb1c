"""The life of a task: records, history, event log, durable run, images."""
