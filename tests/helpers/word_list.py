"""Phrases that readers had to decipher, with the words to use instead.

Each key is a regular expression that ignores case, and in which a space matches any white space. Rules for whole
sentences are in CONTRIBUTING.md; this list contains only phrases that a program can recognise reliably.
"""

PHRASES = {
    # Interrupted work
    r"\bg(?:o|oes|one|oing) on\b(?! disk)": "resumes; continues",
    r"\btaken? up again\b": "resumes",
    r"\bkilled (?:runs?|comparisons?|calls?|training)\b": "interrupted run",
    r"\bafter a (?:kill|stop)\b": "after an interruption",
    r"\b(?:broken|break|breaks|cut|cuts|cutting) off\b": "interrupted; truncated",
    r"\bg(?:ive|ives|ave|iven) up\b": "abandons; abandoned",
    # Models and answers
    r"\bkept (?:answers?|calls?|responses?)\b": "cached responses",
    r"\bread(?:s|ing)? anew\b|\banew\b": "recomputed; again",
    r"\bprefix(?:es)? (?:is|are|that is|that are) read once\b": "prefilled once, reused from the KV cache",
    r"\blikel(?:iest|ier)\b|\bholds? (?:it |them )?likely\b": "most probable; more probable",
    r"\btroubles?\b": "error; transient error",
    r"\b(?:held|hold|holds) to (?:a|the|its|schemas?|choices)\b": "constrained to",
    r"\bask(?:s|ed|ing)? (?:a|the|any|one) (?:language )?models?\b": "prompt, query or call a model",
    r"\bmodels? (?:is|are|was|were) asked\b": "the model is prompted or queried",
    r"\bmodels? (?:is|are) told\b|\b(?:is|are|was|were|be) told (?:of|how|that|what|so)\b": "receives; is reported",
    r"\bwhat (?:it|they|that|this|others|(?:a|the|each|every) [a-z]+) took\b|\bwhat (?:it|that|this) takes\b":
        "the cost or usage of …",
    r"\b(?:layers?|layer) (?:around|before|behind) (?:a|the|its) models?\b": "middleware",
    r"\bshown examples\b|\bexamples (?:that )?(?:is|are|were) shown\b": "in-context examples",
    r"\b(?<!model\s)(?:a|one|each|every|the|that|which|several|no) cards?\b(?! reader)": "GPU, device",
    r"\bfrom nothing\b": "from scratch",
    # Selecting and retrieving
    r"\blikeness(?:es)?\b": "similarity",
    r"\brarity\b": "IDF",
    r"\bchoosers?\b|\bchoosing examples\b": "selector; selecting examples",
    r"\blook(?:s|ed|ing)? (?:things?|anything|something|nothing|passages|facts) up\b": "retrieve",
    r"\bplaces? of (?:the |an? )?(?:inputs?|texts?|rows?|words?|hits?|examples?|documents?)\b": "index, position",
    r"\bin(?:to)? the place of\b|\bin its place\b": "replaces; instead of",
    r"\bbrought over\b|\bbring(?:s|ing)? (?:[a-z]+ ){1,6}over\b": "imported, migrated",
    r"\bin step with\b": "in sync with",
    r"\bgiv(?:e|es|ing) back the (?:room|space)\b|\bthe room of\b": "reclaim space",
    # Comparisons
    r"\bways? of solving\b|\bways to (?:compare|solve|run)\b|\b(?:which|named|the other|several|all|six) ways\b(?! to)":
        "strategies",
    r"\bat the floor\b|\b(?:the|a|classical) floors?\b": "not better than the majority baseline; majority baseline",
    r"\bone and the same answer\b": "majority baseline",
    r"\b(?:stand|stands|stood|standing) in the (?:pool|test|way|index|file|prompt|cache)\b":
        "also appears in the pool; is contained in",
    r"\bwould likely have been shown\b": "minimum detectable difference",
    r"\bmore than each of\b": "better than the other strategies",
    r"\bthese very runs\b|\bdrawing again\b": "these runs; resampling",
    r"\ba thousand answers\b": "1,000 predictions",
    r"\bby the clock\b": "elapsed time",
    # Errors
    r"(?<!there\s)(?<!there\s\s)\b(?:is|are|was|were|be) no (?!longer|more|less|better|worse|different|larger|smaller"
    r"|higher|lower|later|earlier|faster|slower|defence|protection)[a-z]+": "is not a …; is not valid …",
    r"\bstands? for nothing\b|\bmakes? no sense\b": "is not recognised; is not valid",
    r"\bnested too deep\b|\bstand too deep\b": "nested too deeply (limit: …)",
    r"\bas many [a-z ]{1,30} as may\b": "the queue is full",
    r"(?<=[a-z]) but for\b(?! example)": "except",
    r"\bhalf (?:of )?a character\b|\bhalf(?: a)? surrogates?\b": "lone surrogate",
    r"\bwas had\b": "(say what happened)",
    # Sentences
    r"\bsays? so\b": "the error message names …; is reported",
    r"\b(?-i:What) (?:fits|is missing|is given|does not|cannot|comes|stands|no [a-z]+)\b[^?#\n]*(?=\.)":
        "a sentence whose subject does something",
    r"\bwhere there (?:is|are|was|were)\b|\bNone where\b": "if there is; None if",
    r"\bso that\b[^.]{0,120}\bso that\b": "two sentences",
    r"\b(?:texts?|requests?|tokens|files|milliseconds|seconds|bytes|ms|µs|passages|threads?|lines?|calls|rows) an? "
    r"(?:second|minute|hour|row|query|worker|core|batch|page|prompt|request|call|file|passage|step|gigabyte|line)\b":
        "per",
    r"\bat the (?:most|least)\b(?! [a-z]*(?:recent|likely|probable|similar|important))": "at most; at least",
    r"\bby chance\b|\bleft to chance\b": "at random",
    r"\bmend(?:s|ed|ing)?\b": "fixes, repairs",
    r"\blet(?:s|ting)? go of\b": "closes, releases",
    r"\bdoes no harm\b|\b(?:twice|a second time) does nothing\b": "is safe to call twice",
    r"\bleave the house\b": "leave your premises",
    r"\blook(?:s|ed|ing)? after\b": "checks; manages",
    r"\bteach(?:es)? your shell\b": "enables completion",
    r"\bhang(?:s)? together\b": "relate",
    r"\bheeds?\b": "follows",
    r"\btold apart\b": "distinguished",
    r"\bas (?:it|they) stands?\b": "verbatim, unchanged",
    r"\bkeeps? to (?:its|their|the|a|schemas?)\b": "respects; is constrained to",
    r"\bstands? (?:on|beside|behind|before|where)\b": "is built on; is next to; follows",
}  # fmt: skip

# Names of functions and arguments, which are also checked inside code.
NAMES = {
    r"\bmost_tokens\b": "max_prompt_tokens",
    r"\bwhole_text\b": "require_valid_unicode",
    r"\beach_read_anew\b": "log_likelihoods_uncached",
}
