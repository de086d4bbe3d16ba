"""What runs amount to, written for people: `trainlab report`.

story   what is told: question, commands, tables, comparisons, pictures, failures, environments
page    the story as one HTML file that needs no network
study   the story as Markdown, into a study's write-up between the paragraphs of a person
"""
