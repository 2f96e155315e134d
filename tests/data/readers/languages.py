# ruff: noqa: RUF001 (letters of other scripts are meant)
"""Sentences in many languages, and the usual encodings of each."""

LANGUAGES: dict[str, tuple[str, list[str]]] = {
    "french": ("cp1252 latin-1 iso8859-15 mac_roman", [
        "Le déjeuner est prêt à midi, et les élèves rentrent déjà chez eux.",
        "Où êtes-vous allés l'été dernier avec votre frère aîné ?",
        "La forêt s'étend jusqu'à la mer, où les pêcheurs réparent leurs filets.",
        "Ça m'a coûté très cher, mais le théâtre était plein à craquer.",
    ]),
    "german": ("cp1252 latin-1 mac_roman", [
        "Die Bürger von Köln grüßen die Königin.",
        "Über den Flüssen liegt früh am Morgen dichter Nebel, und die Vögel schweigen.",
        "Das Mädchen aß einen süßen Apfel und hörte die Glocken läuten.",
        "Später gehen wir durch die Straßen zurück nach Hause.",
    ]),
    "spanish": ("cp1252 latin-1", [
        "El niño comió una manzana en el jardín.",
        "¿Dónde está la estación de autobuses más próxima?",
        "Mañana iremos a la montaña con mis compañeros de la compañía.",
        "La canción habla de un corazón que soñó con el océano.",
    ]),
    "portuguese": ("cp1252 latin-1", [
        "A situação não é fácil para as crianças da região.",
        "O avô contou histórias às três irmãs até à noite.",
        "As eleições serão em março, segundo a comissão.",
        "Ele não sabia que a estação já estava fechada após a reunião.",
    ]),
    "swedish": ("cp1252 latin-1", [
        "På våren är det skönt att gå ut i skogen.",
        "Flickan åt två äpplen och en smörgås före lektionen.",
        "Vi åker till ön på lördag om vädret är bra.",
        "Älgen stod vid sjön när båten kom över vattnet.",
    ]),
    "italian": ("cp1252 latin-1", [
        "La città è più bella di notte perché c'è silenzio.",
        "Domani andrò all'università, poi però tornerò a casa.",
        "La libertà è una virtù che non si può comprare.",
        "Lunedì la società pubblicherà le novità.",
    ]),
    "polish": ("cp1250 iso8859-2", [
        "Żółw wszedł na łąkę i zjadł świeżą trawę.",
        "Książka leży na półce obok zdjęcia mojej córki.",
        "Wczoraj poszliśmy do kościoła, a później wróciliśmy do domu.",
        "Mężczyzna był już gotów, lecz pociąg się spóźnił.",
    ]),
    "czech": ("cp1250 iso8859-2", [
        "Příliš žluťoučký kůň úpěl ďábelské ódy.",
        "Děti si hrály na zahradě a večer šly brzy spát.",
        "Můj otec pracuje v továrně na výrobu nábytku.",
        "Zítra pojedeme vlakem do Prahy, kde bydlí naše babička.",
    ]),
    "hungarian": ("cp1250 iso8859-2", [
        "Az erdőben egy öreg tölgyfa áll a folyó mellett.",
        "A gyerekek örülnek, mert holnap szünet kezdődik.",
        "Kérem, mondja meg, hol van a legközelebbi gyógyszertár.",
        "Tegnap este későn értünk haza a színházból, ezért fáradtak vagyunk.",
    ]),
    "turkish": ("cp1254 iso8859-9", [
        "Çocuklar bahçede oynuyor ve şarkı söylüyor.",
        "Yarın sabah İstanbul'a gideceğiz, çünkü dayım hasta.",
        "Bu kitabı öğretmenim bana doğum günümde verdi.",
        "Güneş doğunca kuşlar ağaçlarda ötmeye başladı.",
    ]),
    "russian": ("cp1251 koi8-r iso8859-5 cp866", [
        "Москва является столицей России.",
        "Вчера вечером мы долго гуляли по берегу реки и разговаривали.",
        "Этот старый дом построил ещё мой дедушка, когда был молодым.",
        "Поезд опоздал на два часа, поэтому пришлось ждать на вокзале.",
    ]),
    "ukrainian": ("cp1251 koi8-u", [
        "Київ є столицею України і найбільшим містом країни.",
        "Учора ми довго гуляли берегом річки й розмовляли про життя.",
        "Цей старий будинок збудував ще мій дідусь, коли був молодий.",
        "Потяг запізнився на дві години, тому довелося чекати.",
    ]),
    "bulgarian": ("cp1251", [
        "София е столицата на България и най-големият град в страната.",
        "Вчера вечерта дълго се разхождахме край реката и говорихме.",
        "Тази стара къща е построена от дядо ми преди много години.",
        "Влакът закъсня с два часа, затова трябваше да чакаме.",
    ]),
    "greek": ("cp1253 iso8859-7", [
        "Η Αθήνα είναι η πρωτεύουσα της Ελλάδας.",
        "Χθες το βράδυ περπατήσαμε πολλή ώρα δίπλα στη θάλασσα.",
        "Το παλιό σπίτι το έχτισε ο παππούς μου όταν ήταν νέος.",
        "Το τρένο άργησε δύο ώρες, γι' αυτό έπρεπε να περιμένουμε.",
    ]),
    "hebrew": ("cp1255 iso8859-8", [
        "ירושלים היא עיר הבירה של מדינת ישראל.",
        "אתמול בערב טיילנו שעות רבות על שפת הים ודיברנו.",
        "את הבית הישן הזה בנה סבא שלי כאשר היה צעיר.",
        "הרכבת איחרה בשעתיים ולכן נאלצנו לחכות.",
    ]),
    "arabic": ("cp1256 iso8859-6", [
        "القاهرة هي عاصمة جمهورية مصر العربية.",
        "في مساء أمس مشينا طويلا على شاطئ البحر وتحدثنا.",
        "بنى جدي هذا البيت القديم عندما كان شابا.",
        "تأخر القطار ساعتين، ولذلك اضطررنا إلى الانتظار.",
    ]),
    "lithuanian": ("cp1257", [
        "Vilnius yra Lietuvos sostinė ir didžiausias šalies miestas.",
        "Vakar vakare ilgai vaikščiojome palei upę ir kalbėjomės.",
        "Šį seną namą pastatė mano senelis, kai buvo jaunas.",
        "Traukinys vėlavo dvi valandas, todėl turėjome laukti.",
    ]),
    "japanese": ("cp932 shift_jis euc_jp iso2022_jp", [
        "東京は日本の首都です。",
        "昨日の夜、私たちは川のそばを長い間散歩して話しました。",
        "この古い家は祖父が若いころに建てたものです。",
        "電車が二時間遅れたので、駅で待たなければなりませんでした。",
    ]),
    "chinese": ("gb18030 gbk gb2312", [
        "北京是中华人民共和国的首都。",
        "昨天晚上我们在河边散步了很久，谈了很多事情。",
        "这座老房子是我爷爷年轻的时候盖的。",
        "火车晚点了两个小时，所以我们只好在车站等着。",
    ]),
    "taiwanese": ("big5", [
        "臺北是中華民國的首都。",
        "昨天晚上我們在河邊散步了很久，談了很多事情。",
        "這座老房子是我爺爺年輕的時候蓋的。",
        "火車晚點了兩個小時，所以我們只好在車站等著。",
    ]),
    "korean": ("euc_kr cp949", [
        "서울은 대한민국의 수도이다.",
        "어제 저녁에 우리는 강가를 오랫동안 걸으며 이야기했다.",
        "이 오래된 집은 할아버지가 젊었을 때 지으셨다.",
        "기차가 두 시간 늦어서 역에서 기다려야 했다.",
    ]),
}  # fmt: skip
