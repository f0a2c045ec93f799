"""Measuring jtc beside other frameworks: workloads, one adapter per framework, a process for each, the table."""
