"""A reward model that learns beside the student: it tells the teacher's text from the student's. docs/discriminator.md.

`served` is the teacher that grades by it, `child` the process in which it lives, `jobs` what one job has trained,
`learning` one update, `scorer` the model. Only the child imports torch.
"""
