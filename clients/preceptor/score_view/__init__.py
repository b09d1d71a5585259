"""What `preceptor score` shows: a response token by token, as teacher and student see it.

subject  what is scored: ids, where they are from, and what the student thought of them
asking   services -> looks
text     bytes of tokens -> text that is safe to print
scale    a number -> its step on a scale of colours
lines    one record a row, for programs
paint    the same for people, on a terminal
"""
