"""Words by what they count for when two questions are compared. In lower case and without accents."""


def listed(text: str) -> frozenset[str]:
    """The set of whitespace-separated words of `text`."""
    return frozenset(text.split())


MEANING = listed("""
    how what which who whom whose when where why many much find
    must may not no never none neither nor without except unless cannot cant dont doesnt didnt isnt arent wasnt werent wont non
    false true more less fewer most least greater greatest smaller smallest larger largest bigger biggest longer longest shorter
    shortest higher highest lower lowest older oldest younger youngest faster fastest slower slowest earlier later before after
    above below over under between than or either both each every all any some only other another rest half halves third thirds
    quarter quarters fourth fifth sixth double doubles doubled triple triples tripled twice thrice second seconds last next
    previous once per percent times dozen pair pairs off even odd positive negative nonnegative exactly maximum minimum max min
    total together remaining left extra additional same different
    increase increases increased decrease decreases decreased sum difference product quotient mean median factor factors multiple
    multiples
    combien pas ne sans plus moins chaque tous toutes moitie avant apres
    wie viele nicht kein keine ohne mehr weniger jede jeder jedes alle halfte doppelt vor nach
    cuantos cuantas sin mas menos cada todos todas mitad doble antes despues nunca
    quantos quantas nao sem mais metade dobro depois quanti quante senza piu meno ogni tutti meta doppio prima dopo
    сколько не нет без больше меньше каждыи все половина до после
""")
"""Words that decide what is asked: question words, negation, quantity, order, comparison, and operations with similar names. Two
texts that differ in one of them are different questions."""
MEANING_SYLLABLES = frozenset("不没非无未否多少几大小加减乘除前后上下左右内外增减最每各半倍首末总共剩余还全都")

FUNCTION = listed("""
    a an the this that these those there then so and is are was were be been being has have had having do does did will would can
    could shall should might it its i my me also just now here we our us you your very such as if whether let lets back own about
    le la les l un une des du d et est sont au aux se ce cette der die das ein eine einen und ist sind es den dem im
    el los las una del al y o os um uma e do da dos na gli lo и на
""")
"""Words that may be added or missing without changing a question."""
FUNCTION_SYLLABLES = frozenset("的了呢吗吧啊请问又再且和与则那这是就有がをはにのでともた")

RELATING = listed("""
    to from of in on at by for with into onto upon out up down through across around against among toward towards via
    he she they him her his hers their them il elle ils elles son sa ses er sie ihr ihre sein seine su sus seu sua
    de en par pour avec sur dans von zu mit aus bei auf fur para por con hacia desde em per tra в с у
""")
"""Prepositions and pronouns: they may be added or missing, too, but one in place of another changes the question."""

PERCENT = listed("percent pct prozent")
CURRENCY = listed("usd us eur euro euros gbp dollar dollars")
"""Words for currencies, which are not compared."""
POLITE = listed("please kindly bitte")
ASKING = listed("find compute calculate determine evaluate")
"""Words that ask for a value, as `what is` does."""

FUNCTIONS = listed("sin cos tan cot sec csc arcsin arccos arctan log ln lg exp sqrt gcd lcm mod max min det pi")
SYMBOLS = listed("""
    alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau phi chi psi omega infty degrees
""")
"""Names of symbols, which may be operands."""
FORMAL = FUNCTIONS | SYMBOLS | listed("percent cup cap overline")
"""Words that occur in formulas."""
