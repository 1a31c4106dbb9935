from hypothesis import settings

# A machine that does other things as well is slow now and then, which is no fault of the code.
settings.register_profile("shared-machine", deadline=None, max_examples=40)
settings.load_profile("shared-machine")
