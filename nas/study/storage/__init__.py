"""Where a study is kept: URLs, backends, retries, lease, ownership.

The only room that uses Optuna's private names.
"""
