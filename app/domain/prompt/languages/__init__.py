"""The words of the grammar: one file for each language, and what they have in common.

A file leads words and phrases to entries. An entry is a plain string, such as "zoom" for "zooms"
and "acercar"; a word may stand for several, such as "camera pan" for "Kameraschwenk".
"""
