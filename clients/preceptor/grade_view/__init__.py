"""What `preceptor grade` reads and shows: responses that are judged, and what is said of them.

records  what is graded: texts, and where they are from
asking   records -> outcomes, a few at a time
lines    one record a row, for programs, and all of them in one line
paint    the same for people, on a terminal
"""
