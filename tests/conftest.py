from hypothesis import settings

# The same examples in every run, and no deadline: timings never decide a test.
settings.register_profile("project", derandomize=True, deadline=None, database=None)
settings.load_profile("project")
