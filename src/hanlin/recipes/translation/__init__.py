"""Translation as qwen-mt does it: one text, its languages, its terms; checked before anybody sees it.

options      what a caller may say in `translation_options`, and what is refused
languages    the 92 languages, as data
segmenting   a text as pieces that are translated one by one, with everything between them
protecting   what must survive: links, markup, placeholders, numbers
terms        where a glossary applies, and whether it was kept
memory       earlier translations: the same sentence, or the nearest ones
prompts      what a model is asked
checking     what is wrong with a translation
leftovers    what of it was not translated
mending      what can be put right without asking again
attempts     the ways to translate one piece, cheapest first
recipe       all of it, in order
"""
