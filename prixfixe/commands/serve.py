"""x"""
HELP = "x"
def run(args): return 0
def configure(parser): pass
