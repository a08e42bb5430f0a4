"""Wordings of answers: the words around an option's letter, in the languages that models write.

Alternatives of regular expressions, to be matched without regard to case.
"""

ANSWER = (
    r"\b(?:answers?|ans|response|solution)\b(?!\s+(?:the|this|these|it)\b)"
    r"|\b(?:correct|right|best|final|better|closest|appropriate|likely|suitable)\s+"
    r"(?:answer\s+)?(?:option|choice|letter|alternative|ending|sentence|statement|one|pick)\b"
    r"|\bfinal(?=\s*:)|\brelation(?=\s+is\b)"
)
"Nouns that a colon or a verb links to the letter."

LINK = (
    r"[:=→>]|\s[-–—]|\b(?:is|was|would|should|must|could|may|might|be|to|seems?|appears?|are|as|has)\b|'s\b"
    r"|^\W*(?:\b(?:option|choice|letter|number|no)\b\W*)?$"
)
"Words or marks that link them."

FOREIGN_ANSWER = (
    r"答案|正解|正确|正確|答え|こたえ|回答\s?[:は]|正しい|정답|답은|답\s?:|الإجابة|الاجابة|الجواب|پاسخ|جواب|תשובה"
    r"|उत्तर|জবাব|উত্তর|సమాధానం|பதில்|คำตอบ|ตอบ"
    r"|\b(?:antwort|lösung|richtig(?=\s+ist)|antwoord|svaret?|vastaus|respuesta|resposta|réponse|reponse"
    r"|risposta|răspunsul"
    r"|odpowied[źz]|odpověď|odpoveď|ответ|відповідь|отговор|απάντηση|cevap|cevab[ıi]|yan[ıi]t|đáp án"
    r"|jawaban(?:nya)?|jibu|válasz"
    r"|opción correcta|opção correta|opção certa|alternativa correta|gabarito|opzione corretta|option correcte"
    r"|вариант|варіант)\b"
)

CHOOSE = (
    r"\b(?:choose|chose|chosen|choosing|select|selected|pick|picked|go with|going with|went with|gone with|opt for"
    r"|opted for|vote for|lean(?:ing)? towards?|settle on|guess|say|meant|conclude|favou?rs?|prefer"
    r"|points? (?:to|towards?)"
    r"|wähle|nehme|elijo|escojo|escolho|choisis|scelgo|kies|väljer|wybieram|выбираю|выберу|обираю|seçiyorum"
    r"|chọn|memilih"
    r")\b(?:\s+(?:is|be|for|that|it's|it is))?"
    r"|(?<!不)(?:[应應故]?[选選](?:择|擇)?)(?!项|項)"
)
"Verbs right before the letter."

OTHERS = (
    r"\b(?:(?:some|many|most|few|other)\s\w{2,20}s|(?:some|many|most|other)\speople|some|many|others|people|students"
    r"|textbooks|critics|experts|readers|they|he|she)\s(?:(?:would|might|may|could|will|often|\w{2,15}ly)\s){0,2}$"
)
"Right before such a verb: someone other than the answerer chooses."

CONCLUDE = (
    r"\b(?:so|thus|hence|therefore|then|consequently|also|daher|donc|luego|portanto|quindi|поэтому|dus)\b|[=→]>"
    r"|→|所以|因此"
)
"Right before a letter that ends its clause."

COPULA = (
    r"\b(?:is|was|be|it's|that's|it|probably|possibly|likely|maybe|perhaps|definitely"
    r"|es|ist|est|è|é|är|er|jest|to|je|este|on|είναι|adalah|là|ni|отвечу)\b|是|为|為|は|คือ"
)
"Before a letter that ends its clause; less sure than a conclusion."

NAME = (
    r"option|choice|letter|alternative|sentence|statement|answer|number|the|la|le|el|l'|to|o|a letra|letra"
    r"|opción|opção"
    r"|opzione|antwort|answer option|вариант|variant|选项|選項|選択肢|选|项|الخيار|گزینه|विकल्प|ข้อ"
)
"Words that may stand between such a word and the letter."

CORRECTION = (
    r"\b(?:(?:wait|actually|correction|oops|realis?z?ed?|sorry|mistake|reconsider|on reflection|second thought"
    r"|hmm|instead"
    r"|edit|rather|revised?|doch|en fait|en realidad|на самом деле)\b|no,)"
)

TENTATIVE = r"\b(?:could|might|may|seems?|appears?|going to|would have|first|initially|at first|looks like)\b"
"Before a letter: a statement that may be taken back."

NOT = (
    r"\b(?:not|never|neither|nor|none|except|excluding|exclude[sd]?|eliminat\w{0,4}|rul(?:e|es|ed|ing) out"
    r"|reject\w{0,3}"
    r"|discard\w{0,3}|dismiss\w{0,3}|unlike|rather than|instead of|than|over|compared (?:to|with)|other than"
    r"|without|wrong|incorrect"
    r"|cannot|nicht|kein\w{0,2}|pas|no|non|não|nao|nem|не|ни|нет|nie|niet|inte|ikke|ei|nu|bukan|không phải)\b"
    r"|n't\b|不是|并非|並非|不选|不選|不应|非|排除|不会|ไม่ใช่|ليس|ليست|لا\b|غير|לא\b"
)
"Before a letter: it is denied."

NO_NEGATION = (
    r"\b(?:no|without(?: a| any)?) (?:doubt|question)\b|\bnot (?:only|sure|certain|hard|difficult)\b|\bnone of the\b"
    r"|\bthe (?:only )?(?:(?:incorrect|wrong) (?:one|option|choice|statement|sentence)"
    r"|(?:one|option|choice|statement|sentence|item|word|example)(?: (?:that|which|who))?"
    r"(?:['’]s| (?:is|was|are|were|do|does|did|has|have|can|could|would|will))?(?: not|n['’]t| never))\b"
    r"(?=.*\b(?:is|was|be)\W*(?:(?:option|choice|statement)\W*)?$)"
)

NOT_AFTER = (
    r"\b(?:not|never|cannot|wrong|incorrect|false|out|irrelevant|invalid|unlikely|impossible|eliminat\w{0,4}"
    r"|distractors?|tempting"
    r"|contradict\w{0,3}|fails?|falsch|nicht|faux|fausse|incorrecte?|incorrect[ao]s?|fals[ao]|errad[ao]|sbagliat[ao]"
    r"|неверн\w{0,3}|неправильн\w{0,3}|błędn\w)\b|n't\b|错|錯|误|誤|不|无关|無關|相反|違|아니|않|틀|değil|नहीं"
    r"|خطأ|❌|✗|✘"
)
"After a letter and a verb: it is not the answer."

DIRECTLY_NOT = (
    r"\)?\s*(?:选项|選項|项|項|は|が|가|이|은|는)?\s*(?:[都均皆也]是?|是)?(?:错|錯|误|誤|不正确|不正確|不对|不對|不是|无关|無關|相反"
    r"|では?な|じゃな|아니|değil|नहीं"
    r"|틀|❌|✗|✘|[:–-]?\s*(?:incorrect|wrong)\b)"
)

VERB = (
    r"(?:is|was|are|were|does|do|did|can|could|would|will|should|must|may|might|has|have|had|looks?|seems?"
    r"|appears?|makes?"
    r"|fits?|says?|states?|said|contradicts?|fails?|describes?|refers?|matches|means|talks|mentions|isn't"
    r"|doesn't|can't|cannot"
    r"|wasn't|aren't|ist|sind|es|est|è|é|является|är|jest)\b"
)
"A letter before one of these is the subject of a sentence."

RIGHT = (
    r"(?<!in)(?<!not )\b(?:correct[aeo]?|right|true|best|better|good|accurate|appropriate|supported|likely"
    r"|likeliest|plausible|consistent|valid|sense|is left|remains|the only (?:one|option|choice)"
    r"|answer|richtig|korrekt|richtige|correcta|correto|certa|corretta|juist|goed|верн\w{0,3}|правильн\w{0,3}"
    r"|rätt|poprawn\w)\b"
    r"|(?<!不)(?:正确|正確|对的|對的)|正しい|正解|정답|맞|صحيح|صحیح|सही|✅|✓|✔"
)
"After a letter and a verb: it is the answer."

CLAUSE_END = (
    r"[,;:!?()、，；：。…]|[.](?=\s|$)|\n"
    r"|\band (?=(?:so|thus|hence|therefore|the answer)\b)"
    r"|\b(?:but|because|since|sondern|sino|mais|mas|bensì|ma|maar|men|lecz"
    r"|ale|melainkan|tetapi|while|whereas)\b|而是|因为|因為|بل|बल्कि"
)

CONSIDERED = (
    r"\b(?:although|though|while|whereas|if|unless|since|because|when|even|suppose|assum\w{0,3}|whether|despite"
    r"|let(?!(?:['’]s|\sus|\sme)\s(?:go|choose|pick|select|answer|opt)\b)|many"
    r"|initially|at first|first thought|where|as|otherwise|else)\b|因为|虽然|如果|否则"
)
"In a clause before a letter: the clause states no answer."

NO_STATEMENT = (
    r"\b(?:wrong|incorrect|false|other|if i|whether the|if the|not the|n't the|many would|might|some would"
    r"|is the)[^\w\n.]+$"
)
"Before the word for answer."

COMPOUND = (
    r"\b(?:vitamins?|hepatitis|plan|type|group|grade|grade of|grade an|points?|event|class|section|part|figure"
    r"|person|matrix|det|angle"
    r"|angle at|variable|team|company|schedule|appendix|influenza|mr|mrs|ms|dr|mr\.|mrs\.|dr\.|let|of|blood"
    r"|drug|city|town|country"
    r"|component|reactant|substance|compound|gene|allele|parcel|line|side|phase|box|set|exhibit|lot|unit|room"
    r"|row|column|step)"
)
"Before a letter: it names something other than an option."

AFTER_OPTION = (
    VERB
    + r"|(?:because|since|as|and|or|nor|but|not|rather|instead|while|which|than|with|in|for|so|then|from|given|based|if"
    r"|porque|ya|weil|da|denn|und|oder|nicht|car|parce|puisque|et|ou|mais|y|o|pois|e|perché|потому|так|и|или|а"
    r"|çünkü|karena|vì"
    r"|ponieważ|omdat|eftersom|answer|remains|works)\b"
)
"Words that can follow the letter A, but not the article."

AND = r"(?:and|or|nor|oder|und|y|o|u|ou|et|e|и|или|та|en|of|dan|atau|ve|veya|hoặc|và)"
JOINT = (
    rf"\)?(?:\s?[,、/|&+]\s?(?:{AND}\s)?|\s{AND}\s|\s?(?:和|或|与|與|と|や|か|또는|와|과|و|أو)\s?)(?:(?:option"
    rf"|choice|sentence)\s)?\(?"
)
"Between the letters of a list."

GOES_ON = r"because|since|as|not|and not|rather|instead|ya que|porque|weil|car|parce"
"Words that follow a letter which is not the subject of a sentence."

BEFORE_OPENING = r"is|it is|it's|that is|that's|would be|option|choice|letter|sentence|statement"
"Words that may stand before the letter at the beginning of a text."

NEXT_QUESTION = (
    r"(?:question|q|问题|問題|题目|題目|human|user|passage|article|frage|pregunta|вопрос|질문|instruction"
    r"|exercise|problem)\b\s?\d*\s?[:.)]"
    r"|(?:question|problem|exercise)\s\d+\b|the following (?:are|is a) |answer the following"
)
"The beginning of a line after which another question is asked."
