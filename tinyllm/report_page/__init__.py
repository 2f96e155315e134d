"""One self-contained HTML page about a run: scores, curves, samples, data, settings.

`content` gathers what the page shows, `page` draws it. The page holds its content as JSON, so that
`read` gets it back and a copy with more content can be drawn.
"""
